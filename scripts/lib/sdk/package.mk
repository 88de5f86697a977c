# See rules.mk. The order of the fields is that of OpenWrt's own packages.

VERSION = $(PKG_VERSION)-r$(PKG_RELEASE)

comma := ,
empty :=
space := $(empty) $(empty)
field = $(if $(strip $(2)),$(1): $(strip $(2))$(newline))
define newline


endef

# A dependency that depends on the SDK's configuration has no meaning here, and may not be lost silently.
plain_depends = $(foreach each,$(patsubst +%,%,$(filter-out @%,$(DEPENDS))),$(if $(findstring :,$(each)),\
	$(error DEPENDS: $(each) depends on a configuration),$(each)))
list = $(subst $(space),$(comma) ,$(strip $(1)))

define control
Package: $(1)
Version: $(VERSION)
$(call field,Depends,$(call list,$(plain_depends)))$(call field,Conflicts,$(call list,$(CONFLICTS)))$(call field,Provides,$(call list,$(PROVIDES)))SourceName: $(PKG_NAME)
$(call field,License,$(PKG_LICENSE))$(call field,LicenseFiles,$(PKG_LICENSE_FILES))Section: $(SECTION)
$(call field,Require-User,$(USERID))SourceDateEpoch: $(EPOCH)
$(call field,URL,$(URL))$(call field,Maintainer,$(or $(MAINTAINER),$(PKG_MAINTAINER)))Architecture: $(PKGARCH)
Installed-Size: 0
endef

# script NAME,FILE: a script of the package, if it has it.
script = $(if $(Package/$(1)/$(2)),$(file >$(CONTROL)/$(3),$(Package/$(1)/$(2))))

define BuildPackage
$(eval $(Package/$(1)))
all:
	$$(call Package/$(1)/install,$(ROOT))
	$$(file >$(CONTROL)/control,$$(call control,$(1)))
	$$(file >$(CONTROL)/description,$$(Package/$(1)/description))
	$$(file >$(CONTROL)/conffiles,$$(Package/$(1)/conffiles))
	$$(call script,$(1),preinst,preinst)
	$$(call script,$(1),postinst,postinst-pkg)
	$$(call script,$(1),prerm,prerm-pkg)
	$$(call script,$(1),postrm,postrm)
endef
