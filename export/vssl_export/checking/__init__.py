"""What a bundle is measured by: verification, calibration, speed, limits. Imports core alone."""
