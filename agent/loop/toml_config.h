// The TOML file of `--config`, read by toml++: CLI11's own reader takes a '#' inside a text for a
// comment, and with it the name of a key.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace autoresearch {

// For CLI::App::config_formatter. Values are texts, numbers, true and false, and lists of these.
// Reading throws Error with the line of what is no TOML or no such value.
std::shared_ptr<CLI::Config> toml_config();

}  // namespace autoresearch
