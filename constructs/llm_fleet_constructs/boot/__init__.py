"""What an instance is told at its first boot: the settings document, the systemd units, the user data that carries both."""
