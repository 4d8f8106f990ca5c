"""What tests of coding agents need: a scripted stand-in for the models that they call."""
