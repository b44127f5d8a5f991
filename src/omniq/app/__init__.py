"""The parts the façade `omniq.core.OmniQ` is made of."""
