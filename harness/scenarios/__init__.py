"""The acceptance scenarios, as pytest files: run by ``sysvm run``, or by pytest with the plugin."""
