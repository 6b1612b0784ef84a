// Plays NVIDIA's libnvidia-ml.so.1 for machine_state_test: GPU 3 computes for this process and for
// process `nvml_other`.
#include <unistd.h>

struct Utilization {
  unsigned pid;
  unsigned long long time;
  unsigned cores, memory, encoder, decoder;
};

extern "C" {
unsigned nvml_other = 0;
unsigned long long nvml_reasons = 0;

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &nvml_other;
  return index == 3 ? 0 : 6;
}
int nvmlDeviceGetHandleByUUID(const char*, void**) { return 6; }
int nvmlDeviceGetClockInfo(void*, unsigned, unsigned* megahertz) {
  *megahertz = 1755;
  return 0;
}
int nvmlDeviceGetTemperature(void*, unsigned, unsigned* celsius) {
  *celsius = 64;
  return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {
  *reasons = nvml_reasons;
  return 0;
}
int nvmlDeviceGetProcessUtilization(void*, Utilization* samples, unsigned* count,
                                    unsigned long long) {
  if (samples != nullptr) {
    samples[0] = {static_cast<unsigned>(getpid()), 1, 90, 40, 0, 0};
    samples[1] = {nvml_other, 2, nvml_other > 0 ? 50U : 0U, 9, 0, 0};
  }
  *count = 2;
  return samples != nullptr ? 0 : 7;
}
}
