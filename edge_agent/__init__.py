"""The device's side of Tandem: preprocess, predict, gate, and escalate what is not sure."""
