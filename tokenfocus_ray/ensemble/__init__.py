"""Members' scores to one score: stacking, blending, calibration; numpy, scipy, scikit-learn."""
