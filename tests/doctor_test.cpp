#include "agent/loop/doctor.h"

#include <algorithm>

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
  Bench bench_;
};

TEST_F(DoctorTest, SaysWhatIsMissingAndWhatToType) {
  site_.device = "tpu";
  const std::vector<Finding> findings = survey(site_, bench_);
  EXPECT_NE(fix_of("checkout", findings).find("top folder of the checkout"), std::string::npos);
  EXPECT_NE(fix_of("GPU", findings).find("use --device auto"), std::string::npos);
  EXPECT_NE(fix_of("task", findings).find("build/prepare --source demo"), std::string::npos);
  EXPECT_EQ(fix_of("disk", findings), "");
  EXPECT_EQ(fix_of("clock", findings), "");
  const std::vector<Finding> parts = survey_of_parts(site_);
  for (const char* name : {"compiler", "libtorch"})
    EXPECT_NE(fix_of(name, parts).find("--preset demo"), std::string::npos) << name;
}

TEST_F(DoctorTest, NamesAClockThatStandsBeforeTheBuild) {
  const fs::path built = file("build/candidate.json", "{}");
  fs::last_write_time(built, fs::file_time_type::clock::now() + std::chrono::hours(48));
  EXPECT_NE(fix_of("clock", survey(site_, bench_)).find("timedatectl"), std::string::npos);
}

TEST_F(DoctorTest, NamesLibrariesThatComeFirst) {
  file("conda/libcrypto.so.3", "");
  setenv("LD_LIBRARY_PATH", (dir_ / "conda").c_str(), 1);
  EXPECT_NE(fix_of("libraries", survey(site_, bench_)).find("type: unset LD_LIBRARY_PATH"),
            std::string::npos);
  unsetenv("LD_LIBRARY_PATH");
  EXPECT_EQ(fix_of("libraries", survey(site_, bench_)), "there is no such finding");
}

TEST_F(DoctorTest, ModelWrittenCodeRunsOutsideASandboxOnlyIfTheUserSaysSo) {
  file("train.cpp", "");
  file("program.md", "");
  site_.model_written = true;
  site_.sandbox = "off";
  const std::vector<Finding> findings = survey(site_, bench_);
  EXPECT_EQ(fix_of("checkout", findings) + fix_of("GPU", findings) + fix_of("sandbox", findings),
            "");
  EXPECT_FALSE(bench_.sandboxed);
  EXPECT_FALSE(bench_.gpu);
  EXPECT_GT(bench_.memory_bytes, 0);
}

TEST(TextOfFindings, HasALineForEach) {
  EXPECT_EQ(
      text_of(
          {{"git", "fine", ""}, {"disk", "", "full", true}, {"clock", "", "late"}, {"x", "", ""}}),
      "git       ok    fine\ndisk      FIX   full\nclock     warn  late\nx         ok\n");
}

}  // namespace
}  // namespace autoresearch
