"""What comes in: an argument becomes a private snapshot, a snapshot becomes upright pages."""
