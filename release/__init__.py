"""What a release is made of and how it is checked. Imports `vssl` nowhere: it looks at files and metadata alone."""
