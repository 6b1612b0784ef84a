#include "agent/lab/machine.h"

#include <gtest/gtest.h>

#include "common/files.h"

namespace autoresearch {
namespace {

TEST(Machine, ItsNameIsTheProcessorsWithoutTheKeyBeforeIt) {
  const std::string cpu = machine_name().substr(0, machine_name().find("; "));
  EXPECT_NE(cpu, "");
  EXPECT_EQ(cpu.find(':'), std::string::npos) << cpu;
  EXPECT_NE(read_file("/proc/cpuinfo").find(": " + cpu + "\n"), std::string::npos) << cpu;
}

}  // namespace
}  // namespace autoresearch
