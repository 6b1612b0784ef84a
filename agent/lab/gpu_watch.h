// What NVIDIA's driver tells of a GPU, through its library NVML, which is loaded at run time: a
// machine without it has no such watch and no message. Written after NVIDIA's reference of NVML and
// tried beside a library that plays it (tests/played_nvml.cpp); on a GPU it has not been tried yet.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace autoresearch {

class GpuWatch {
 public:
  // `device` as train gets it: "cuda", "cuda:N", "auto"; empty: no GPU is meant.
  explicit GpuWatch(const std::string& device);
  ~GpuWatch();

  struct Look {
    double megahertz = 0;  // of its cores
    double celsius = 0;
    bool slowed = false;   // it runs below the clock that it would have, for heat or lack of power
    bool foreign = false;  // a process that does not descend from ours computed since the last look
  };
  std::optional<Look> look();  // nothing if there is no such GPU or no NVML

 private:
  struct Library;
  bool foreign();

  std::unique_ptr<Library> library_;  // null: none
  void* handle_ = nullptr;            // NVML's, of the device
  unsigned long long seen_ = 0;       // NVML's time of the last sample
  bool sees_ours_ = false;            // its numbers of processes are those of our /proc
};

}  // namespace autoresearch
