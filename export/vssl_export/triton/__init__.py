"""The Triton repository that is written from a bundle. Imports core alone."""
