"""Fine-tuning a backbone's members: labels, losses, bags, adapters and the step; never Ray."""
