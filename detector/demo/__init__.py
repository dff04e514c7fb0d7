"""`tocsin demo`: this machine watched for three minutes, with a real fault in the middle."""
