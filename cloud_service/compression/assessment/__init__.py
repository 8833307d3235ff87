"""What a model is worth: accuracy and its uncertainty, time, memory and energy."""
