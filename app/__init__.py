"""What a person starts: the command line, the report and the doctor."""
