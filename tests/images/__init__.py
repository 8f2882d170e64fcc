"""The container images: their files, and what is installed into them."""
