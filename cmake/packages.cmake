# What the system provides; each missing package is named with the command that installs it.

macro(require_package name package)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "${name} is missing; apt-get install ${package}")
  endif()
endmacro()

require_package(Threads build-essential)
require_package(OpenSSL libssl-dev COMPONENTS Crypto)
require_package(CURL libcurl4-openssl-dev)
require_package(spdlog libspdlog-dev)
require_package(nlohmann_json nlohmann-json3-dev)
require_package(CLI11 libcli11-dev)
