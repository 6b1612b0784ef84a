// What a figure depends on beside code and task: the machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

// Processor, GPUs and their driver in one line. Figures of two machines do not compare.
std::string machine_name();

// Reads files, and the shared libraries that lie anywhere below folders, as far as they are not in
// memory, so that the next program that loads them does not wait for the disk. What can't be read,
// or would take more than half of the free memory, is left out.
void warm_files(const std::vector<fs::path>& paths);

}  // namespace autoresearch
