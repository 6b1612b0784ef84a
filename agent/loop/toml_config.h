// The TOML file of `--config`, read by toml++: CLI11's own reader takes a '#' inside a text for a
// comment, and with it the name of a key.
#pragma once

#include <CLI/CLI.hpp>

namespace autoresearch {

// Gives `app` the option --config, which its subcommand `run` takes as well: a file whose table
// [run] holds the options of `run`. Values are texts, numbers, true and false, and lists of these.
// Reading throws Error with the file and the line of what is no TOML, no option or no such value.
void add_config_file(CLI::App& app, CLI::App& run);

}  // namespace autoresearch
