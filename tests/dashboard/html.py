"""HTML as a strict reader sees it: what is wrong with a page, and what is on it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})
CONTROLS = frozenset({"input", "select", "textarea"})
LINKS = frozenset({"href", "action"})


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        problems: what is wrong with it.
        text: what a reader sees.
        links: where its links and forms lead.
        posts: where its forms lead that change something.
        refresh: what it says of refreshing itself.
    """

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.posts: list[str] = []
        self.refresh: str | None = None
        self._open: list[str] = []
        self._ids: list[str] = []
        self._labelled: set[str] = set()
        self._controls: list[tuple[str, dict[str, str]]] = []
        self._rows: list[list[int]] = []
        self._seen: list[str] = []
        if not source.startswith("<!doctype html>"):
            self.problems.append("no doctype")
        self.feed(source)
        self.close()
        self._judge()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._seen.append(tag)
        self._judge_tag(tag, given)
        if len(given) != len(attrs):
            self.problems.append(f"<{tag}> says something twice")
        if "id" in given:
            self._ids.append(given["id"])
        if tag == "label":
            self._labelled.add(given.get("for", ""))
        if tag in CONTROLS:
            self._controls.append((tag, given))
        self.links += [given[name] for name in LINKS & given.keys()]
        if given.get("method") == "post":
            self.posts.append(given["action"])
        if given.get("http-equiv") == "refresh":
            self.refresh = given["content"]
        self._count(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes what is not open, at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def _judge_tag(self, tag: str, given: dict[str, str]) -> None:
        if tag in ("script", "style", "iframe", "object", "img"):
            self.problems.append(f"<{tag}>")
        self.problems += [
            f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"
        ]
        if tag == "th" and given.get("scope") not in ("col", "row"):
            self.problems.append("<th> without scope")

    def _count(self, tag: str) -> None:
        match tag:
            case "table":
                self._rows.append([])
            case "tr":
                self._rows[-1].append(0)
            case "td" | "th":
                self._rows[-1][-1] += 1
            case _:
                pass

    def _judge(self) -> None:
        if self._open:
            self.problems.append(f"never closed: {self._open}")
        if len(set(self._ids)) != len(self._ids):
            self.problems.append(f"an id twice: {sorted(self._ids)}")
        for tag, given in self._controls:
            if given.get("id") not in self._labelled:
                self.problems.append(f"<{tag} name={given.get('name')}> without a label")
        if any(len(set(widths)) > 1 for widths in self._rows):
            self.problems.append(f"rows of different widths: {self._rows}")
        for tag in ("h1", "title", "main"):
            if self._seen.count(tag) != 1:
                self.problems.append(f"{self._seen.count(tag)} times <{tag}>")
        if self._seen.count("caption") != self._seen.count("table"):
            self.problems.append("a table without a caption")
        if any(ord(c) < 32 and c not in "\n\t" for c in self.text):
            self.problems.append("control characters")
