"""What puts Tandem into place: demo, generated code, packages."""
