"""`flattr chaos`: the stack under load and faults, judged by an oracle that shares no code with it."""
