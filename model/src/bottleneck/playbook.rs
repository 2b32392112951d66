//! playbook/program.md, as far as programs read it.
