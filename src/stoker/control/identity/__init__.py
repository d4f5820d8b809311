"""Who people and programs are by an identity provider's word, and their sessions."""
