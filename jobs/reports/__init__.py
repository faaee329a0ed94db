"""Tables, plots and pages from finished results. It must not run a model, nor know which verb shows them."""
