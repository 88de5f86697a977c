# What openwrt-package/Makefile takes from OpenWrt's SDK, as far as scripts/build-ipk.sh needs it: so that one
# file says what is in the package, to those who build with the SDK and to those who do not.
#
# ROOT and CONTROL are the folders to fill, ARCH the package's architecture, EPOCH its time, and STAGED a folder
# as cargo leaves it, with bin/qod-agent.

INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR

PKG_INSTALL_DIR := $(STAGED)
PKG_BUILD_DIR := $(STAGED)
PKGARCH := $(ARCH)
