"""ComfyUI's editor format in and out, as plain data.

In: `sheets` checks the graphs of a file, `reading` makes a document of them, `promotion` inputs of the widgets that
subgraphs show.  Out: `pages` numbers nodes and links, `filling` writes what widgets hold, `placing` says where nodes
stand that nobody has placed, and `writing` puts the file together.  Both ways: `kinds` says what has to be known of a
type of node, `values` in which order widgets stand, and `drawing` how things look.  `lowering` says what it all means.
"""
