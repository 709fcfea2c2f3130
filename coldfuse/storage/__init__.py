"""An object store as a Protocol, on a local folder, on S3 and in memory."""
