"""From rows and labels to coefficients: triangles, the evidence fit, its posterior, other regressors."""
