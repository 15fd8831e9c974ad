"""HTTP: routes that only translate."""
