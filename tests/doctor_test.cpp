#include "agent/loop/doctor.h"

#include <algorithm>

#include "common/limits.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class DoctorTest : public FolderTest {
 protected:
  void SetUp() override {
    setenv("AUTORESEARCH_DATA", dir_.c_str(), 1);
    site_ = {dir_, dir_ / "build", dir_ / "runs/t", "demo", "cpu"};
  }

  std::string fix_of(const std::string& name, const std::vector<Finding>& findings) {
    for (const Finding& f : findings)
      if (f.name == name) return f.fix;
    return "there is no such finding";
  }

  Site site_;
  Slot slot_;
};

TEST_F(DoctorTest, SaysWhatIsMissingAndWhatToType) {
  site_.device = "tpu";
  const std::vector<Finding> findings = survey(site_, slot_);
  EXPECT_NE(fix_of("checkout", findings).find("top folder of the checkout"), std::string::npos);
  EXPECT_NE(fix_of("GPU", findings).find("use --device auto"), std::string::npos);
  EXPECT_NE(fix_of("task", findings).find("build/prepare --source demo"), std::string::npos);
  EXPECT_EQ(fix_of("disk", findings), "");
  EXPECT_EQ(fix_of("clock", findings), "");
  const std::vector<Finding> parts = survey_of_parts(site_);
  EXPECT_HAS(fix_of("compiler", parts), "--preset demo");
  EXPECT_HAS(fix_of("libtorch", findings), "--preset demo");
}

TEST_F(DoctorTest, NamesAClockThatStandsBeforeTheBuild) {
  const fs::path built = file("build/candidate.json", "{}");
  fs::last_write_time(built, fs::file_time_type::clock::now() + std::chrono::hours(48));
  EXPECT_NE(fix_of("clock", survey(site_, slot_)).find("timedatectl"), std::string::npos);
}

TEST_F(DoctorTest, NamesLibrariesThatComeFirst) {
  file("conda/libcrypto.so.3", "");
  setenv("LD_LIBRARY_PATH", (dir_ / "conda").c_str(), 1);
  EXPECT_NE(fix_of("libraries", survey(site_, slot_)).find("type: unset LD_LIBRARY_PATH"),
            std::string::npos);
  unsetenv("LD_LIBRARY_PATH");
  EXPECT_EQ(fix_of("libraries", survey(site_, slot_)), "there is no such finding");
}

// On Debian the loader's own folder is /usr/lib/x86_64-linux-gnu.
TEST_F(DoctorTest, TheSystemsOwnLibrariesAreNotForeign) {
  std::string maps = read_file("/proc/self/maps");
  maps.resize(maps.find("/libstdc++.so"));
  setenv("LD_LIBRARY_PATH", maps.substr(maps.rfind(' ') + 1).c_str(), 1);
  EXPECT_EQ(fix_of("libraries", survey(site_, slot_)), "there is no such finding");
  unsetenv("LD_LIBRARY_PATH");
}

TEST_F(DoctorTest, AnEmptyProgramIsAWarningIfModelsReadIt) {
  const auto program = [&](const std::string& text) {
    file("program.md", text);
    return fix_of("program", survey(site_, slot_));
  };
  EXPECT_EQ(program(" \n"), "") << "the builtin proposer does not read it";
  site_.model_written = true;
  EXPECT_HAS(program(" \n\t\n"), "program.md is empty");
  EXPECT_EQ(program("Try a wider model.\n"), "");
}

TEST_F(DoctorTest, SaysWhichLimitWasFound) {
  for (const Finding& f : survey(site_, slot_)) {
    if (f.name == "limits") {
      EXPECT_HAS(f.is + f.fix, memory_limit().source);
      EXPECT_HAS(f.is, "cores (limit: " + core_limit().source + ")");
    }
  }
}

TEST_F(DoctorTest, ModelWrittenCodeRunsOutsideASandboxOnlyIfTheUserSaysSo) {
  file("train.cpp", "");
  file("program.md", "");
  site_.model_written = true;
  site_.sandbox = "off";
  const std::vector<Finding> findings = survey(site_, slot_);
  EXPECT_EQ(fix_of("checkout", findings) + fix_of("GPU", findings) + fix_of("sandbox", findings),
            "");
  EXPECT_FALSE(slot_.sandboxed);
  EXPECT_FALSE(slot_.gpu);
  EXPECT_GT(slot_.memory_bytes, 0);
}

TEST(TextOfFindings, HasALineForEach) {
  EXPECT_EQ(
      text_of(
          {{"git", "fine", ""}, {"disk", "", "full", true}, {"clock", "", "late"}, {"x", "", ""}}),
      "git       ok    fine\ndisk      FIX   full\nclock     warn  late\nx         ok\n");
}

}  // namespace
}  // namespace autoresearch
