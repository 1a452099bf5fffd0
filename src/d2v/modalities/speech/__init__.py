"""Speech: recordings at 16 kHz."""
