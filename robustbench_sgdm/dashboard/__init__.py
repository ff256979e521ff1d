"""The dashboard: what its pages in `app/views/` are made of, and the server in front of them.

Start it with `robustbench dashboard`. Pages read runs through `run_data` and `image_viewer`, which never load torch.
Only `run_images` and `inference` do, after a click; other work goes to processes of its own (`jobs`).
"""
