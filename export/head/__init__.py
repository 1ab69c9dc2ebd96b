"""The head (scaler, selector, classifier): fitted, evaluated, and what is known of its limits."""
