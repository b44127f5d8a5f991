"""The four components in the objects of S3, Google Cloud Storage, Azure and their like."""
