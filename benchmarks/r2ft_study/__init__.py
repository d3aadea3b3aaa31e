"""What R2FT changes: probability mass far from the prompt, log-probabilities, answers, before and after."""
