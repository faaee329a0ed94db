"""What jobs show of their results: tables, plots and pages, made from figures that are there. It must not run a
model, nor know which verb shows it.
"""
