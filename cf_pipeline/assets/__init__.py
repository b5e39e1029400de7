"""The assets, one short module per stage of the graph, named after what it makes."""
