"""What happens while a model is in service: rollouts, requests, feedback, incidents, notifications, API keys."""
