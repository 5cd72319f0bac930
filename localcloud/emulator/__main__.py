"""Start ministack with our additions: python -m localcloud.emulator (settings by environment, see localcloud.cloud)."""

from localcloud.emulator import alarms, appscaling, autoscaling, budgets, network, public_parameters, seams

EXTENSIONS = (alarms, appscaling, autoscaling, budgets, network, public_parameters)


def main() -> None:
    """Check the private names we rest on, add our parts, then serve until told to stop."""
    seams.require()
    for extension in EXTENSIONS:
        extension.install()
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
