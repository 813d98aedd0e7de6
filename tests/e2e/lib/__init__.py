"""What the end-to-end cases are made of: processes, servers, clients, tlstrace, checks."""
