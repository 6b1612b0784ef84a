// What the system tells of NVIDIA's GPUs to a program that asks no CUDA. `root` is the system's
// root folder; tests have others.
#pragma once

#include <string>

#include "common/files.h"

namespace autoresearch {

// Whether NVIDIA's kernel driver serves a GPU here. Under WSL every GPU is /dev/dxg, so there the
// library of NVIDIA's driver decides.
bool has_nvidia_device(const fs::path& root = "/");

// The driver's version, such as "580.65.06". "unknown" if there is a device but no version to read,
// as under WSL; empty if there is no device.
std::string nvidia_driver(const fs::path& root = "/");

// Whether the driver's node for managed memory is missing, without which CUDA does not start. On a
// system that was booted without a display it appears with the first CUDA program.
bool lacks_nvidia_uvm(const fs::path& root = "/");

}  // namespace autoresearch
