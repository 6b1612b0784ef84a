// The subcommands of agent that need no loop and measure nothing: runs, delete, prune, pause,
// resume, status, show, report, export, reply, compare.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

namespace autoresearch {

// Adds them to `app`. What is returned is called after parsing: if one of them was typed, it does
// it and returns the exit code; else it returns nothing. It throws Error for what a user did wrong.
std::function<std::optional<int>()> add_commands(CLI::App& app);

// Asks at the terminal; anything but y and yes is no.
bool says_yes(const std::string& question);

}  // namespace autoresearch
