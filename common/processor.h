// Whether this processor has what libtorch's code may be made of.
#pragma once

#include <optional>
#include <string>

namespace autoresearch {

// What it lacks, as old ones and the plain models of virtual machines do; nothing on other
// architectures than x86-64. `cpuinfo`: /proc/cpuinfo. Pure.
std::optional<std::string> processor_problem(const std::string& cpuinfo);

// Logs it as a warning, before libtorch can end the program without a word. Called after
// set_up_log.
void warn_of_processor();

}  // namespace autoresearch
