"""One process that answers over HTTP: the API, and the page at the microscope. Needs the extra ``serve``."""
