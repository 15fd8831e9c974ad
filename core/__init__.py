"""The machinery: what a node is, graphs, planning, running, caching; diffusion maths; networks.  See README.md."""
