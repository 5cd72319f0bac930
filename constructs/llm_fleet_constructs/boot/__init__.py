"""What an instance is told at its first boot: settings, systemd units, and the user data that carries both."""
