"""What a ViT is, and where models come from. Importing this package imports no runtime."""
