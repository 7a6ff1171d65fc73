"""Networks from the files that other frameworks wrote. The frameworks are not needed.

Every importer has three parts: it reads the file, follows the graph, and makes layers. `layout` has the order of numbers in
other frameworks, `draft` the nodes while a network is read, `passes` what is simplified in every network, `graph` how nodes
become a module, and `assemble` makes the model.
"""
