"""Training of the embedded model `mini`: data, VAE, text encoder, experts, export. CPU only, resumable at any time."""
