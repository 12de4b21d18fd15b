"""vitlet: Vision Transformers made small and fast for the machine at hand, with the evidence."""

__version__ = "0.1.0"
