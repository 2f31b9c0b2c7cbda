"""ComfyUI over its own API: plans as its graphs and back, and a client of its server. A leaf without torch.

Nothing of ComfyUI is imported or copied: it is spoken to over HTTP and a websocket.
"""
